-- Replaces the bindings of one address-of-record, if nothing has changed them since they were read and no rule is broken.
--
-- KEYS[1]  its key
-- ARGV[1]  the new value (registrar/location/shared_form.py says how it is laid out)
-- ARGV[2]  the version to be replaced, 0 for none; when it is not given, the one before that of the new value
-- ARGV[3]  when the key ends, in ms since the epoch; when it is not given, with the last of the bindings
-- ARGV[4]  how many bindings there may be
--
-- Returns 1 when the new value is kept, else the current one, or nothing when there is none: whoever asked decides again
-- on that. A current value that is not understood counts as none, so that it can be replaced.

local HEAD, TRAILER, ENTRY = 58, 8, 20
local MAGIC = 'loc1'

-- Offsets as Lua counts them.
local KIND_AT, LENGTH_AT, EXPIRES_AT, LAST_EXPIRES_AT, CSEQ_AT = 9, 10, 15, 23, 39

local function is_compact(value)
  return string.byte(value, KIND_AT) ~= 0
end

local function count_of(value)
  return is_compact(value) and 1 or struct.unpack('<I4', value, #value - TRAILER + 1)
end

local function is_understood(value)
  if #value < HEAD + TRAILER or string.sub(value, -#MAGIC) ~= MAGIC then
    return false
  end
  return is_compact(value) or count_of(value) * ENTRY <= #value - HEAD - TRAILER
end

-- Returns contact and Call-ID of a compact value, or nothing when they are not found.
local function series_of(value)
  local agent, place = struct.unpack('<I2I2', value, #value - TRAILER + 1)
  local last = #value - TRAILER - agent - place
  local start = HEAD + string.byte(value, LENGTH_AT) + 1
  local first_end = string.find(value, '\0', start, true)
  local second_end = first_end and string.find(value, '\0', first_end + 1, true)
  if not second_end or second_end > last then
    return nil
  end
  local third_end = string.find(value, '\0', second_end + 1, true)
  local call_id_ends = (third_end and third_end <= last) and third_end - 1 or last
  return string.sub(value, start, first_end) .. string.sub(value, second_end + 1, call_id_ends)
end

-- Returns the CSeq of each series of registrations, by the digest of its contact and Call-ID.
local function cseqs_of(value)
  if is_compact(value) then
    local series = series_of(value)
    return series and {[string.sub(redis.sha1hex(series), 1, 16)] = struct.unpack('<I4', value, CSEQ_AT)} or {}
  end
  local count = count_of(value)
  local place = #value - TRAILER - ENTRY * count + 1
  local cseqs = {}
  for _ = 1, count do
    local cseq, digest = struct.unpack('<I4c16', value, place)
    cseqs[digest] = cseq
    place = place + ENTRY
  end
  return cseqs
end

-- Says whether a series of registrations would go back (RFC 3261 section 10.3 step 7).
local function goes_back(old, new)
  if is_compact(old) and is_compact(new) then
    local goes = struct.unpack('<I4', new, CSEQ_AT) < struct.unpack('<I4', old, CSEQ_AT)
    return goes and series_of(new) == series_of(old)
  end
  local known = cseqs_of(old)
  for digest, cseq in pairs(cseqs_of(new)) do
    if cseq < (known[digest] or 0) then
      return true
    end
  end
  return false
end

local new = ARGV[1]
local old = redis.call('GET', KEYS[1])
local replaced = old and is_understood(old)
local version = replaced and struct.unpack('<I4', old) or 0
if version ~= (tonumber(ARGV[2]) or struct.unpack('<I4', new) - 1) then
  return old
end
local count = count_of(new)
if ARGV[4] and count > tonumber(ARGV[4]) and count > (replaced and count_of(old) or 0) then
  return old
end
if replaced and goes_back(old, new) then
  return old
end
local ends_at = ARGV[3]
if not ends_at then
  ends_at = struct.unpack('<d', new, is_compact(new) and EXPIRES_AT or LAST_EXPIRES_AT)
  ends_at = string.format('%.0f', math.max(1, ends_at * 1000))
end
redis.call('SET', KEYS[1], new, 'PXAT', ends_at)
-- Whoever has written a key is told of the next change only if it has read it since.
redis.call('EXISTS', KEYS[1])
return 1

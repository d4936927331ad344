-- The subscriber table of Kamailio (version 7) with the two hash columns of OpenSIPS, so that either can read it.
-- A domain is its own realm. A hash is '' when it is not known.
CREATE TABLE subscriber (
    -- Counts the users ever added; nothing refers to it here.
    id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    -- The part before the @, as the phone writes it in its credentials; case matters.
    username VARCHAR(64) NOT NULL DEFAULT '',
    -- The part behind the @, in lower case.
    domain VARCHAR(64) NOT NULL DEFAULT '',
    -- Kamailio's place for the password in clear text. We leave it empty.
    password VARCHAR(64) NOT NULL DEFAULT '',
    -- MD5(username:domain:password), 32 hexadecimal digits.
    ha1 VARCHAR(128) NOT NULL DEFAULT '',
    -- MD5(username@domain:domain:password), for phones that send their user name with the domain.
    ha1b VARCHAR(128) NOT NULL DEFAULT '',
    -- SHA-256(username:domain:password), 64 hexadecimal digits.
    ha1_sha256 VARCHAR(128) NOT NULL DEFAULT '',
    -- SHA-512/256(username:domain:password), 64 hexadecimal digits.
    ha1_sha512t256 VARCHAR(128) NOT NULL DEFAULT '',
    -- Also the index behind every look-up, and the order in which users are listed.
    CONSTRAINT subscriber_account_idx UNIQUE (username, domain)
);

"""What can go wrong with MySQL beside a query that is itself wrong: nobody can be asked, or the answer is not known.

Numbers are those of https://mariadb.com/kb/en/mariadb-error-codes/ and of MySQL's server and client error references.
"""

from pymysql.err import InterfaceError, InternalError, MySQLError

# The connection: could not be made, is gone, was ended by the server, or packets are out of their order.
_LOST = frozenset({1053, 1077, 1079, 1080, 1152, 1153, 1156, 1158, 1159, 1160, 1161, 1184, 1927, 2002, 2003, 2005, 2006,
                   2012, 2013, 2014, 2026, 2027, 2055, 4031})
# Who asks: too many connections, an address or a password that the server does not want, no such database, a limit.
_REFUSED = frozenset({1040, 1044, 1045, 1049, 1129, 1130, 1203, 1226, 1251, 1698, 2059, 2061, 3118, 3159, 4151})
# The server has no room, or ended the statement: 1205 waited for a lock too long, 1317 and 1969 somebody ended it.
_CANNOT_NOW = frozenset({1021, 1037, 1041, 1114, 1205, 1317, 1969, 3024})
_READ_ONLY = frozenset({1290, 1792, 1836, 3100})
_DEADLOCK = 1213


class SqlUnavailable(Exception):
    """No server could be asked, or its answer is unknown. The text says which server and why, never a password."""


def code_of(error: BaseException) -> int:
    """Return the number of an error of PyMySQL; 0 when it has none."""
    first = error.args[0] if error.args else 0
    return first if isinstance(first, int) else 0


def is_lost(error: BaseException) -> bool:
    """Tell whether the connection is of no use any more.

    PyMySQL says InterfaceError of a closed one, and InternalError without a number of packets out of order.
    """
    if isinstance(error, SqlUnavailable | InterfaceError):
        return True
    return isinstance(error, MySQLError) and (code_of(error) in _LOST or is_out_of_order(error))


def timed_out(error: BaseException) -> bool:
    """Tell whether a connection was given up because no answer came in time; PyMySQL says it in the cause alone."""
    return isinstance(error.__context__, TimeoutError)


def is_out_of_order(error: BaseException) -> bool:
    """Tell whether what was read was no answer to what was asked."""
    return isinstance(error, InternalError) and code_of(error) == 0


def is_unavailable(error: BaseException) -> bool:
    """Tell whether an error is about the server or the way to it, and not about what it was asked."""
    if not isinstance(error, MySQLError):
        return isinstance(error, SqlUnavailable)
    return is_lost(error) or code_of(error) in _REFUSED | _CANNOT_NOW | _READ_ONLY


def has_no_effect(error: BaseException) -> bool:
    """Tell whether the server said that it did nothing: it is read only, or rolled the transaction back (deadlock)."""
    return isinstance(error, MySQLError) and (code_of(error) in _READ_ONLY or code_of(error) == _DEADLOCK)


def is_read_only(error: BaseException) -> bool:
    """Tell whether a server takes no writes."""
    return isinstance(error, MySQLError) and code_of(error) in _READ_ONLY


def told(error: BaseException) -> str:
    """Return an error in one line, such as "Access denied for user … (1045)"."""
    text = " ".join(str(error.args[1] if len(error.args) > 1 else error).split()) or type(error).__name__
    return f"{text} ({code_of(error)})" if code_of(error) else text

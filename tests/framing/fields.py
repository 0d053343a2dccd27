"""Fields that speak of one connection, by the letter of RFC 9110, section 7.6.1, and of what is usual."""

# Not taken from the package, or its list would be its own judge.
OF_THE_CONNECTION = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)

"""The torture messages of RFC 4475 and RFC 5118, byte for byte, what the RFCs say of each, and schemas of XML."""

"""HTTP/1.1 as the gateway needs it, on the parser of Node.js: the server's half and the client's."""

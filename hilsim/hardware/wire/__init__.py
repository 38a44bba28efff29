"""What goes over the wire to a board: frames, requests, replies, and the client."""

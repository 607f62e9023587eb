"""Bodies: bytes of a caller -> checked values.

body            content type, encoding, size, model
large_bodies    JSON that is parsed piece by piece
frames          binary bodies: points with codes
"""

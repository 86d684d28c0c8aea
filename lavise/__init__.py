"""LaViSE tells, in words, what the filters of a vision network have learned."""

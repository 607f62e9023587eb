"""`bebr serve --workers N`: several processes on one port.

    supervisor   starts them, replaces those that die, stops and reloads them
    forking      where they come from
    template     the process that they are forked from
    process      one of them, as the supervisor sees it
    control      what the two say to each other
    worker       the process: one server, with the socket that all share

Worker 0 is the primary: it does what a single process does. How the others let it answer is `server.workers`.
"""

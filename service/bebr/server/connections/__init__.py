"""HTTP on the socket, below the app.

protocol      parses requests and starts the app for each
connection    one connection: how long it waits for its caller, and how it ends
exchange      one request and its answer, which is written at once
repeating     a connection whose requests repeat the head of the one before
repeats       what is done for each of them
rates         how long callers are waited for
reception     what is answered before a request becomes a task: probes, and refusals under load
key_limits    what each API key may take
starting      few requests start in each turn of the event loop
refusals      those answers as bytes
probes        a port of their own for probes, beside the event loop
"""

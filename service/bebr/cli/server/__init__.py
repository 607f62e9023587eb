"""Commands that run the service: `serve`, `demo`, `config`, and what they share.

starting    what any service does before it answers: its logs, its folder, its address
serving     how uvicorn serves the app
running     a service of one process
workers/    one of several
"""

"""Commands that run the service: `serve`, `demo`, `config`."""

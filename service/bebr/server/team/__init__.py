"""What the workers of one service know of each other, by files in a folder that nobody else can open.

team     who they are, and where their files are
counts   requests of API keys that they count together
whole    the metrics of all of them as those of one service
ended    what those had counted that have ended
"""

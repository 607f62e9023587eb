"""Bulk encoding: files of texts or vectors become files of records, part by part, on any number of machines.

encode       the command `bebr encode`
plan         what is encoded with what: the part of each row, the same whoever looks
part         one part: its rows are read, encoded and written
"""

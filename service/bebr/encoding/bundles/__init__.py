"""Bundles on disk: a model with all its files, named by its fingerprint.

manifest         what a bundle says about itself, and the fingerprint
manifest_json    that as manifest.json, written and read strictly; json_reader takes typed fields out of JSON
bundle           one bundle: loaded, verified, read
contents         the bytes and settings that are written into a bundle
writer           makes a bundle, whole or not at all
registry         the bundles on hand
"""

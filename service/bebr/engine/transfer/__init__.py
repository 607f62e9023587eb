"""Collections that leave this service and come into another one, exactly as they are.

definition  what a collection is, beside its points: out, and checked on its way in
records     points with their codes of all versions: out by id, page by page, and checked on their way in
transfer    the use cases
"""

from bebr.engine.transfer.definition import Definition
from bebr.engine.transfer.records import ExportedPage
from bebr.engine.transfer.transfer import Transfer

__all__ = ["Definition", "ExportedPage", "Transfer"]

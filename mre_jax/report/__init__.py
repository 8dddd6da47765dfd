"""One HTML page that shows what was measured, with the pictures it was measured on."""

from mre_jax.report.contact_sheet import contact_sheet
from mre_jax.report.page import Written, write_report
from mre_jax.report.section import Picture, Section

__all__ = ["Picture", "Section", "Written", "contact_sheet", "write_report"]

"""One HTML page that shows what was measured, with the pictures it was measured on."""

from mre_jax.report.contact_sheet import contact_sheet
from mre_jax.report.page import Picture, Section, Written, write_report
from mre_jax.report.spec import ReportSpec

__all__ = [
    "Picture",
    "ReportSpec",
    "Section",
    "Written",
    "contact_sheet",
    "write_report",
]

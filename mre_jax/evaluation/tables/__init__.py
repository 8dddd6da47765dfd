"""The paper's tables from result rows."""

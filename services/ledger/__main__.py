"""`python -m services.ledger`."""

import typer

from services.ledger.cli import ledger

typer.run(ledger)

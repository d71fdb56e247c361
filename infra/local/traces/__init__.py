"""Stands in for X-Ray on one machine: receives spans, stores them, and shows them."""

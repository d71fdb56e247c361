"""What stands in for X-Ray on one machine: a receiver of spans, where they are kept, and ways to look at them."""

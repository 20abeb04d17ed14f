"""`make bench`: how many payments a second, over HTTP and in SQL, on one machine, and whether all money is still there."""

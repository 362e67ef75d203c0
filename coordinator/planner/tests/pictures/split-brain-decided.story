# The master was cut off and went on; nyc was promoted and served the clients. A person has decided.
edge b from a:615 promoted
backup 1 fra-1 fra a:400 taken 11:40
backup 2 fra-1 fra a:600 taken 12:00 verified stored
backup 3 sgp-1 sgp a:670 taken 12:10
backup 4 nyc-1 nyc b:669 taken 12:12 verified rehearsed
live fra-1 fra a:678 master 1 seen 12:10 unreachable
live sgp-1 sgp a:672 link-down 300 seen 12:29
live nyc-1 nyc b:700 master 0 seen 12:29
sample a:400 11:41
sample a:615 12:01
sample b:620 12:02
sample b:700 12:29
accepted b at 12:15 by alice because "fra was cut off; nyc served the clients" over a

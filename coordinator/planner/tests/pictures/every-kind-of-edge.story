# A promotion, a lower bound, a bridge over a changed id, a restore, a history that nobody holds, two
# unrelated ones, two that contradict each other, and copies without a position.
edge b from a:1000 promoted
edge c from b:1500 following
edge d from b:2000 inferred
edge e from a:900 restored
edge 1 from b:1800 promoted
edge 2 from a:700 promoted
edge 2 from b:1200 promoted
backup 1 fra-1 fra a:500 taken 08:00 verified rehearsed
backup 2 fra-1 fra a:990 keys 12 taken 08:30
backup 3 nyc-1 nyc b:1900 taken 09:00 ineligible "part 3 is missing"
backup 4 sgp-1 sgp c:1700 taken 09:30 stale "captured on request while its master link had been down for 3 h"
backup 5 fra-1 fra d:2600 taken 10:00
backup 6 lab-1 lab e:1300 taken 10:05
backup 7 fra-2 fra 9:70000 taken 10:30
backup 8 old-1 fra - taken 07:00
head 9:88000 fra-2 11:00
live fra-1 fra d:2700 master 0 seen 12:29
live old-1 fra - master 0 no-backlog seen 12:28
sample a:1000 08:40
sample b:1100 08:41
sample b:2000 09:05

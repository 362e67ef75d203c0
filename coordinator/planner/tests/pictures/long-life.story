# A long life: twenty-six failovers in a row, four of them contested and decided; only the present matters.
backup 1 nyc-1 nyc 11:38177 taken 00:03 verified rehearsed
sample 11:38177 00:03
backup 2 sgp-1 sgp 11:54917 taken 00:06 verified stored
sample 11:54917 00:06
backup 3 sgp-1 sgp 11:61067 taken 00:09 verified rehearsed
sample 11:61067 00:09
edge 12 from 11:130000 promoted
backup 4 fra-1 fra 12:961596 taken 00:16 verified stored
sample 12:961596 00:16
backup 5 nyc-1 nyc 12:1429982 taken 00:19 verified stored
sample 12:1429982 00:19
backup 6 sgp-1 sgp 12:1525156 taken 00:22 verified stored
sample 12:1525156 00:22
edge 13 from 12:4130000 promoted
backup 7 sgp-1 sgp 13:4605099 taken 00:29 verified stored
sample 13:4605099 00:29
backup 8 fra-1 fra 13:5258596 taken 00:32 verified stored
sample 13:5258596 00:32
edge 14 from 13:8130000 promoted
backup 9 fra-1 fra 14:8130489 taken 00:39 verified stored
sample 14:8130489 00:39
edge 15 from 14:8137000 promoted
backup 10 sgp-1 sgp 15:8151535 taken 00:46 verified stored
sample 15:8151535 00:46
backup 11 fra-1 fra 15:8168645 taken 00:49 verified rehearsed
sample 15:8168645 00:49
edge 16 from 15:8168645 promoted
backup 12 fra-2 fra 16:8169545 taken 00:49
edge 17 from 15:8257000 promoted
backup 13 fra-1 fra 17:8278807 taken 00:56 verified rehearsed
sample 17:8278807 00:56
edge 18 from 17:8377000 promoted
backup 14 sgp-1 sgp 18:8803638 taken 01:03 verified stored
sample 18:8803638 01:03
backup 15 nyc-1 nyc 18:9545930 taken 01:06 verified rehearsed
sample 18:9545930 01:06
edge 19 from 18:12377000 promoted
backup 16 fra-1 fra 19:12377691 taken 01:13 verified stored
sample 19:12377691 01:13
backup 17 fra-1 fra 19:12378944 taken 01:16 verified rehearsed
sample 19:12378944 01:16
backup 18 nyc-1 nyc 19:12379264 taken 01:19 verified rehearsed
sample 19:12379264 01:19
edge 1a from 19:12384000 promoted
backup 19 fra-1 fra 1a:12385502 taken 01:26 verified stored
sample 1a:12385502 01:26
edge 1b from 1a:12391000 promoted
backup 20 nyc-1 nyc 1b:12392062 taken 01:33 verified rehearsed
sample 1b:12392062 01:33
edge 1c from 1b:12392062 promoted
backup 21 fra-2 fra 1c:12392962 taken 01:33
edge 1d from 1c:12393262 promoted
backup 22 fra-2 fra 1d:12393562 taken 01:33
edge 1e from 1b:12398000 promoted
backup 23 sgp-1 sgp 1e:12416654 taken 01:40 verified stored
sample 1e:12416654 01:40
edge 1f from 1e:12416654 promoted
backup 24 fra-2 fra 1f:12417554 taken 01:40
edge 20 from 1e:12518000 promoted
backup 25 fra-1 fra 20:12871357 taken 01:47 verified rehearsed
sample 20:12871357 01:47
backup 26 fra-1 fra 20:13220198 taken 01:50 verified rehearsed
sample 20:13220198 01:50
edge 21 from 20:16518000 promoted
backup 27 sgp-1 sgp 21:16518604 taken 01:57 verified stored
sample 21:16518604 01:57
edge 22 from 21:16525000 promoted
backup 28 nyc-1 nyc 22:16526052 taken 02:04 verified stored
sample 22:16526052 02:04
edge 23 from 22:16532000 promoted
backup 29 nyc-1 nyc 23:16729636 taken 02:11 verified stored
sample 23:16729636 02:11
backup 30 fra-1 fra 23:17497182 taken 02:14 verified rehearsed
sample 23:17497182 02:14
backup 31 nyc-1 nyc 23:18172266 taken 02:17 verified stored
sample 23:18172266 02:17
edge 24 from 23:20532000 promoted
backup 32 fra-1 fra 24:20539075 taken 02:24 verified rehearsed
sample 24:20539075 02:24
backup 33 sgp-1 sgp 24:20565501 taken 02:27 verified rehearsed
sample 24:20565501 02:27
edge 25 from 24:20652000 promoted
backup 34 nyc-1 nyc 25:20652483 taken 02:34 verified stored
sample 25:20652483 02:34
edge 26 from 25:20659000 promoted
backup 35 nyc-1 nyc 26:20659536 taken 02:41 verified rehearsed
sample 26:20659536 02:41
edge 27 from 26:20666000 promoted
backup 36 nyc-1 nyc 27:20666773 taken 02:48 verified rehearsed
sample 27:20666773 02:48
backup 37 fra-1 fra 27:20667023 taken 02:51 verified stored
sample 27:20667023 02:51
backup 38 sgp-1 sgp 27:20667550 taken 02:54 verified stored
sample 27:20667550 02:54
edge 28 from 27:20673000 promoted
backup 39 nyc-1 nyc 28:20673855 taken 03:01 verified rehearsed
sample 28:20673855 03:01
backup 40 sgp-1 sgp 28:20674215 taken 03:04 verified rehearsed
sample 28:20674215 03:04
backup 41 fra-1 fra 28:20675491 taken 03:07 verified rehearsed
sample 28:20675491 03:07
edge 29 from 28:20680000 promoted
backup 42 nyc-1 nyc 29:20680415 taken 03:14 verified stored
sample 29:20680415 03:14
backup 43 fra-1 fra 29:20681765 taken 03:17 verified stored
sample 29:20681765 03:17
backup 44 sgp-1 sgp 29:20682189 taken 03:20 verified stored
sample 29:20682189 03:20
edge 2a from 29:20687000 promoted
backup 45 nyc-1 nyc 2a:21612143 taken 03:27 verified stored
sample 2a:21612143 03:27
backup 46 fra-1 fra 2a:22054172 taken 03:30 verified stored
sample 2a:22054172 03:30
edge 2b from 2a:22054172 promoted
backup 47 fra-2 fra 2b:22055072 taken 03:30
edge 2c from 2a:24687000 promoted
backup 48 nyc-1 nyc 2c:24688149 taken 03:37 verified stored
sample 2c:24688149 03:37
edge 2d from 2c:24694000 promoted
backup 49 nyc-1 nyc 2d:25104733 taken 03:44 verified rehearsed
sample 2d:25104733 03:44
backup 50 sgp-1 sgp 2d:25968563 taken 03:47 verified rehearsed
sample 2d:25968563 03:47
backup 51 sgp-1 sgp 2d:26276352 taken 03:50 verified stored
sample 2d:26276352 03:50
edge 2e from 2d:28694000 promoted
backup 52 fra-1 fra 2e:28826640 taken 03:57 verified rehearsed
sample 2e:28826640 03:57
edge 2f from 2e:32694000 promoted
backup 53 sgp-1 sgp 2f:33587906 taken 04:04 verified stored
sample 2f:33587906 04:04
backup 54 fra-1 fra 2f:33881837 taken 04:07 verified stored
sample 2f:33881837 04:07
backup 55 fra-1 fra 2f:33899316 taken 04:10 verified rehearsed
sample 2f:33899316 04:10
edge 30 from 2f:36694000 promoted
backup 56 fra-1 fra 30:36702261 taken 04:17 verified stored
sample 30:36702261 04:17
backup 57 nyc-1 nyc 30:36708136 taken 04:20 verified rehearsed
sample 30:36708136 04:20
edge 31 from 30:36814000 promoted
backup 58 fra-1 fra 31:36952070 taken 04:27 verified rehearsed
sample 31:36952070 04:27
backup 59 nyc-1 nyc 31:37097301 taken 04:30 verified rehearsed
sample 31:37097301 04:30
backup 60 sgp-1 sgp 31:37786244 taken 04:33 verified stored
sample 31:37786244 04:33
edge 32 from 31:40814000 promoted
backup 61 fra-1 fra 32:41782551 taken 04:40 verified rehearsed
sample 32:41782551 04:40
edge 33 from 32:41782551 promoted
backup 62 fra-2 fra 33:41783451 taken 04:40
edge 34 from 32:44814000 promoted
backup 63 fra-1 fra 34:44824317 taken 04:47 verified stored
sample 34:44824317 04:47
backup 64 sgp-1 sgp 34:44844024 taken 04:50 verified stored
sample 34:44844024 04:50
backup 65 fra-1 fra 34:44859925 taken 04:53 verified rehearsed
sample 34:44859925 04:53
edge 35 from 34:44934000 promoted
backup 66 nyc-1 nyc 35:44938000 taken 04:57 verified stored
live fra-1 fra 35:44943000 master 2 seen 12:29
live nyc-1 nyc 35:44943000 seen 12:29
live sgp-1 sgp 35:44942200 seen 12:29
live fra-2 fra 33:44934100 master 0 seen 11:59 unreachable
accepted 35 at 12:00 by alice because "the clients were on nyc" over 16,1c,1d,1f,2b,33

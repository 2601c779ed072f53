"""A deployment in one thread and in virtual time: shipped code over models of processes, clocks, etcd and logs.

Everything that happens is a function of one seed. `kernel` turns time, `network` carries calls, `etcd` and `logs` are
what processes are given instead of servers, `site` puts the shipped parts together, `backend` lets a drill break it.
"""

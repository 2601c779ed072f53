// Command etcdctl is etcd's own client, unchanged: a module of ours exists only so that go.sum pins every byte of it.
package main

import "go.etcd.io/etcd/etcdctl/v3/ctlv3"

func main() { ctlv3.MustStart() }

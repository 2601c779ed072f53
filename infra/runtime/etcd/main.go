// Command etcd is etcd's own server, unchanged: a module of ours exists only so that go.sum pins every byte of it.
package main

import (
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"
)

func main() { etcdmain.Main(os.Args) }

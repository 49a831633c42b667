package main

import (
	"time"

	"github.com/forge-build/forge"
)

// clusterFlags are forge.ClusterOptions as flags.
type clusterFlags struct {
	Remote         string        `help:"Server of the Remote Execution API that does steps: grpc[s]://HOST:PORT[/INSTANCE]." env:"FORGE_REMOTE" placeholder:"ADDRESS"`
	RemotePolicy   string        `help:"What goes there: auto (RUN that takes 2 s or more, or nobody knows how long; in trouble all is done here), only (all RUN that can; trouble is an error) or off." enum:",auto,only,off" default:"auto" env:"FORGE_REMOTE_POLICY" placeholder:"WHEN"`
	RemotePlatform []string      `sep:"none" help:"Property that its workers have to have." env:"FORGE_REMOTE_PLATFORM" placeholder:"NAME=VALUE"`
	RemoteNetwork  []string      `sep:"none" help:"Property that gives a step a network there; '' if all have one. Without it, steps with a network stay here." env:"FORGE_REMOTE_NETWORK" placeholder:"NAME=VALUE"`
	RemoteTimeout  time.Duration `help:"How long a step may take there." default:"2h" placeholder:"TIME"`
	serverFlags
}

func (f *clusterFlags) cluster() forge.ClusterOptions {
	return forge.ClusterOptions{
		Remote: f.Remote, RemotePolicy: f.RemotePolicy, RemotePlatform: f.RemotePlatform, RemoteNetwork: f.RemoteNetwork, RemoteTimeout: f.RemoteTimeout,
	}
}

// serverFlags are forge.ServerOptions as flags.
type serverFlags struct {
	RemoteHeader []string `sep:"none" help:"Header of every call to a grpc[s]:// server, such as a token." env:"FORGE_REMOTE_HEADER" placeholder:"NAME=VALUE"`
	RemoteCA     string   `name:"remote-ca" help:"Certificates, PEM, that may sign that of such a server." type:"path" env:"FORGE_REMOTE_CA" placeholder:"FILE"`
	RemoteCert   string   `help:"Certificate, PEM, that this client shows such a server." type:"path" env:"FORGE_REMOTE_CERT" placeholder:"FILE"`
	RemoteKey    string   `help:"Its key, PEM." type:"path" env:"FORGE_REMOTE_KEY" placeholder:"FILE"`
	RemoteHelper string   `help:"Program that gives credentials for such a server, as Bazel has them." env:"FORGE_REMOTE_HELPER" placeholder:"PROGRAM"`
}

func (f *serverFlags) options() forge.ServerOptions {
	return forge.ServerOptions{
		Headers: f.RemoteHeader, CA: f.RemoteCA, Cert: f.RemoteCert, Key: f.RemoteKey, Helper: f.RemoteHelper, Version: versionText(),
	}
}

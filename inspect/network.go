package inspect

import "time"

// A Network is a network as docker's API shows it.
type Network struct {
	Name       string
	ID         string `json:"Id"`
	Created    time.Time
	Scope      string
	Driver     string
	EnableIPv4 bool
	EnableIPv6 bool
	IPAM       IPAM
	Internal   bool
	Attachable bool
	Ingress    bool
	ConfigFrom struct{ Network string }
	ConfigOnly bool
	Containers map[string]Member
	Options    map[string]string
	Labels     map[string]string
}

// IPAM say which addresses a network has.
type IPAM struct {
	Driver  string
	Options map[string]string
	Config  []Range
}

// A Range is a range of addresses.
type Range struct {
	Subnet             string
	IPRange            string `json:",omitempty"`
	Gateway            string
	AuxiliaryAddresses map[string]string `json:",omitempty"`
}

// A Member is a container that is connected to a network.
type Member struct{ Name, EndpointID, MacAddress, IPv4Address, IPv6Address string }

package network

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/forge-build/forge/internal/flock"
	"github.com/forge-build/forge/runtime"
	"github.com/forge-build/forge/runtime/network/dns"
)

// NameServerAddress is where a container finds its name server, and who shares its network does: a loopback address of its own. It is
// docker's.
const NameServerAddress = "127.0.0.11"

// NameServer starts a name server for the container and returns its address, for resolv.conf. It knows the names of other
// containers in the same networks that were created, and asks servers of this machine for all others; it does so from this
// machine's network, so that they may be on its loopback interface. A container whose networks are all internal gets no
// answers from them. It lasts until Close. A second call changes the servers.
func (b *Sandbox) NameServer(servers []netip.AddrPort) (netip.Addr, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.upstream = servers
	if b.names == nil {
		udp, tcp, err := b.listenNames()
		if err != nil {
			return netip.Addr{}, err
		}
		b.names = dns.Serve(udp, tcp, &zone{sandbox: b})
	}
	b.askServers()
	return netip.MustParseAddr(NameServerAddress), nil
}

// askServers has the name server ask others, if there is a way out: questions can carry data.
func (b *Sandbox) askServers() {
	if b.names == nil {
		return
	}
	if b.way() == nil {
		b.names.Ask(nil)
		return
	}
	b.names.Ask(b.upstream)
}

// listenNames makes the sockets of the name server in the container's namespace. A container of an ID may be a name server
// itself, and wants port 53 at all its addresses: there the sockets have another port, to which the kernel sends questions.
func (b *Sandbox) listenNames() (udp *net.UDPConn, tcp *net.TCPListener, err error) {
	err = runtime.InNetworkNamespace(b.Namespace, func() error {
		if b.container != "" {
			if udp, tcp, err = listenBoth(0); err != nil {
				return err
			}
			if err = redirect(udp, tcp); err == nil {
				return nil
			}
			udp.Close()
			tcp.Close()
		}
		udp, tcp, err = listenBoth(53)
		return err
	})
	return udp, tcp, err
}

func listenBoth(port uint16) (udp *net.UDPConn, tcp *net.TCPListener, err error) {
	at := netip.AddrPortFrom(netip.MustParseAddr(NameServerAddress), port)
	if udp, err = net.ListenUDP("udp4", net.UDPAddrFromAddrPort(at)); err != nil {
		return nil, nil, err
	}
	if tcp, err = net.ListenTCP("tcp4", net.TCPAddrFromAddrPort(at)); err != nil {
		return nil, nil, errors.Join(err, udp.Close())
	}
	return udp, tcp, nil
}

// redirect sends what is for port 53 of the name server to its sockets, in this thread's namespace.
func redirect(udp *net.UDPConn, tcp *net.TCPListener) error {
	to := func(protocol byte, at netip.AddrPort) *request {
		return addRule("output", func(r rule) {
			r.destination(register, 4)
			r.compare(unix.NFT_CMP_EQ, at.Addr().AsSlice())
			r.meta(register, unix.NFT_META_L4PROTO)
			r.compare(unix.NFT_CMP_EQ, []byte{protocol})
			r.port(register)
			r.compare(unix.NFT_CMP_EQ, []byte{0, 53})
			r.load(register, at.Addr().AsSlice())
			r.load(register2, portBytes(at.Port())[:2])
			r.toLoaded()
		})
	}
	return transact(
		addTable(), addChain("output", "nat", hookOutput, priorityNAT),
		to(unix.IPPROTO_UDP, netip.MustParseAddrPort(udp.LocalAddr().String())),
		to(unix.IPPROTO_TCP, netip.MustParseAddrPort(tcp.Addr().String())))
}

// A zone is the names of what is connected to the networks of a container. It is read from the account, again when that
// has changed.
type zone struct {
	sandbox *Sandbox
	mu      sync.Mutex // guards dirs
	dirs    map[string]*zoneDir
}

// A zoneDir is the endpoints in one directory of the account.
type zoneDir struct {
	changed, read time.Time
	endpoints     []Endpoint
}

// clockStep is what the clock of file systems may be late, generously.
const clockStep = 50 * time.Millisecond

// endpoints are those of a network, some of which may have died.
func (z *zone) endpoints(network string) []Endpoint {
	account := z.sandbox.store.account
	st, err := os.Stat(account.dir(network))
	if err != nil {
		return nil
	}
	if d := z.dirs[network]; d != nil && d.changed.Equal(st.ModTime()) && d.read.Sub(d.changed) > clockStep {
		return d.endpoints
	}
	d := &zoneDir{changed: st.ModTime(), read: time.Now()}
	files, _ := filepath.Glob(filepath.Join(account.dir(network), "[0-9]*"))
	for _, f := range files {
		var e Endpoint
		if readJSON(f, &e) == nil {
			d.endpoints = append(d.endpoints, e)
		}
	}
	if z.dirs == nil {
		z.dirs = map[string]*zoneDir{}
	}
	z.dirs[network] = d
	return d.endpoints
}

// find returns the endpoints for which is holds, of living owners, in the networks of the container that were created. It is told the
// container's own in the same network, too.
func (z *zone) find(is func(own, e *Endpoint) bool) (list []Endpoint) {
	z.mu.Lock()
	defer z.mu.Unlock()
	for _, own := range z.sandbox.Endpoints() {
		if driverOf(own.Network) != "" {
			continue
		}
		for _, e := range z.endpoints(own.NetworkID) {
			if is(&own, &e) && flock.Held(filepath.Join(z.sandbox.store.account.dir(e.NetworkID), e.Address.Addr().String())) {
				list = append(list, e)
			}
		}
	}
	return list
}

// Addresses implements dns.Zone.
func (z *zone) Addresses(name string) (list []netip.Addr, ok bool) {
	found := z.find(func(own, e *Endpoint) bool { return own.links(name, e) })
	if len(found) == 0 {
		found = z.find(func(_, e *Endpoint) bool { return e.called(name) })
	}
	for _, e := range found {
		list = append(list, e.Address.Addr())
		if e.Address6.IsValid() {
			list = append(list, e.Address6.Addr())
		}
	}
	return list, len(list) > 0
}

// Name implements dns.Zone.
func (z *zone) Name(address netip.Addr) (string, bool) {
	for _, e := range z.find(func(_, e *Endpoint) bool { return e.Address.Addr() == address || e.Address6.Addr() == address }) {
		if e.Name != "" {
			return e.Name + "." + e.Network, true
		}
	}
	return "", false
}

// links reports whether a name, in lower case, is what the endpoint's container alone calls another one of the network.
func (e *Endpoint) links(name string, other *Endpoint) bool {
	name = strings.TrimSuffix(name, "."+strings.ToLower(e.Network))
	return slices.ContainsFunc(e.Links, func(l Link) bool {
		return strings.EqualFold(name, l.Alias) && (other.Container == l.Container || other.called(strings.ToLower(l.Container)))
	})
}

// called reports whether a name, in lower case, is one of the endpoint's.
func (e *Endpoint) called(name string) bool {
	name = strings.TrimSuffix(name, "."+strings.ToLower(e.Network))
	if name == "" {
		return false
	}
	if strings.EqualFold(name, e.Name) || name == short(e.Container) {
		return true
	}
	for _, a := range e.Aliases {
		if strings.EqualFold(name, a) {
			return true
		}
	}
	return false
}

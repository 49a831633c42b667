package network

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/forge-build/forge/internal/flock"
	"github.com/forge-build/forge/runtime"
)

// bridgeName is the interface all containers of root are attached to.
const bridgeName = "forge0"

// subnets are tried in turn until one is free: 10.209.N.0/24.
func subnet(n int) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 209, byte(n), 0}), 24)
}

// bridged makes a pair of interfaces from the bridge into a new namespace. The namespace is made meanwhile.
func bridged(ctx context.Context, dir string) (n *Sandbox, err error) {
	type made struct {
		file *os.File
		err  error
	}
	namespace := make(chan made, 1)
	go func() {
		f, err := runtime.NewNetworkNamespace()
		namespace <- made{f, err}
	}()
	release, gateway, address, err := joinBridge(ctx, dir)
	m := <-namespace
	if err = errors.Join(err, m.err, ctx.Err()); err == nil {
		n = &Sandbox{Namespace: m.file, Address: address, Gateway: gateway.Addr(), release: release}
		err = n.attach()
	}
	if err != nil {
		if m.file != nil {
			m.file.Close()
		}
		if release != nil {
			err = errors.Join(err, release())
		}
		return nil, err
	}
	return n, nil
}

// joinBridge makes sure of the bridge and reserves an address.
func joinBridge(ctx context.Context, dir string) (release func() error, gateway, address netip.Prefix, err error) {
	lock, err := flock.Lock(ctx, filepath.Join(dir, "lock"), flock.Exclusive)
	if err != nil {
		return nil, gateway, address, err
	}
	defer lock.Close()
	if err := mayForward(); err != nil {
		return nil, gateway, address, err
	}
	used, err := sweepAddresses(dir)
	if err != nil {
		return nil, gateway, address, err
	}
	if gateway, err = ensureBridge(); err == nil {
		address, release, err = reserve(dir, gateway)
	}
	if err != nil && used == 0 {
		err = errors.Join(err, removeBridge())
	}
	return release, gateway, address, err
}

// mayForward makes the kernel forward packets. It is asked first, before anything of the host is touched. The setting
// stays: others may have come to rely on it.
func mayForward() error {
	const file = "/proc/sys/net/ipv4/ip_forward"
	if b, err := os.ReadFile(file); err == nil && bytes.HasPrefix(b, []byte("1")) {
		return nil
	}
	return os.WriteFile(file, []byte("1"), 0)
}

// ensureBridge makes the bridge and the rule, unless they are there, and returns the bridge's address. They stay when
// the last container has ended: taking them down takes the kernel longer than most containers run. Sweep does it.
func ensureBridge() (gateway netip.Prefix, err error) {
	if a, ok := interfaceAddress(bridgeName); ok {
		if gateway = netip.PrefixFrom(a, 24); !subnet(int(a.As4()[2])).Contains(a) {
			return gateway, fmt.Errorf("interface %s is somebody else's: it has the address %s", bridgeName, a)
		}
		if masquerades() {
			return gateway, nil
		}
		return gateway, masquerade(gateway.Masked(), bridgeName)
	}
	free, err := freeSubnet()
	if err != nil {
		return gateway, err
	}
	gateway = netip.PrefixFrom(free.Addr().Next(), free.Bits())
	c, err := dial(unix.NETLINK_ROUTE)
	if err != nil {
		return gateway, err
	}
	defer c.close()
	if err := masquerade(free, bridgeName); err != nil {
		return gateway, err
	}
	if err := c.do(addBridge(bridgeName)); err != nil && !errors.Is(err, unix.EEXIST) {
		return gateway, err
	}
	index, err := interfaceIndex(bridgeName)
	if err != nil {
		return gateway, err
	}
	return gateway, c.do(linkUp(index), addAddress(index, gateway))
}

// removeBridge removes the bridge and the rule.
func removeBridge() error {
	c, err := dial(unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer c.close()
	err = c.do(deleteLink(bridgeName))
	if errors.Is(err, unix.ENODEV) {
		err = nil
	}
	return errors.Join(err, stopMasquerade())
}

// freeSubnet is one that no route of the host leads to.
func freeSubnet() (netip.Prefix, error) {
	b, err := os.ReadFile("/proc/thread-self/net/route")
	if err != nil {
		return netip.Prefix{}, err
	}
next:
	for n := range 256 {
		s := subnet(n)
		for _, r := range routes(string(b)) {
			if r.Bits() > 0 && r.Overlaps(s) {
				continue next
			}
		}
		return s, nil
	}
	return netip.Prefix{}, errors.New("every subnet of 10.209.0.0/16 is in use")
}

// routes reads the destinations of /proc/net/route.
func routes(text string) (list []netip.Prefix) {
	for _, line := range strings.Split(text, "\n") {
		f := strings.Fields(line)
		if len(f) < 8 {
			continue
		}
		address, err := hex.DecodeString(f[1])
		mask, err2 := hex.DecodeString(f[7])
		if err != nil || err2 != nil || len(address) != 4 || len(mask) != 4 {
			continue // the heading
		}
		bits := 0
		for _, m := range mask {
			for ; m != 0; m &= m - 1 {
				bits++
			}
		}
		var a [4]byte // printed as a number of the machine's byte order
		binary.NativeEndian.PutUint32(a[:], binary.BigEndian.Uint32(address))
		list = append(list, netip.PrefixFrom(netip.AddrFrom4(a), bits))
	}
	return list
}

// sweepAddresses removes reservations of the dead and counts the others. Who has one holds a lock on its file.
func sweepAddresses(dir string) (used int, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0, err
	}
	for _, e := range entries {
		if _, err := netip.ParseAddr(e.Name()); err != nil {
			continue
		}
		path := filepath.Join(dir, e.Name())
		if flock.Held(path) {
			used++
			continue
		}
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return used, err
		}
	}
	return used, nil
}

// reserve takes a free address of the subnet.
func reserve(dir string, gateway netip.Prefix) (address netip.Prefix, release func() error, err error) {
	last := gateway.Masked().Addr().As4()
	last[3] = 255
	for a := gateway.Addr().Next(); a != netip.AddrFrom4(last); a = a.Next() {
		f, err := os.OpenFile(filepath.Join(dir, a.String()), os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err != nil {
			return address, nil, err
		}
		if err := flock.Try(f, flock.Exclusive); err != nil {
			return address, nil, errors.Join(err, f.Close())
		}
		return netip.PrefixFrom(a, gateway.Bits()), func() error {
			// Gone before it is unlocked: so nobody can take it for one of the dead.
			return errors.Join(os.Remove(f.Name()), f.Close())
		}, nil
	}
	return address, nil, fmt.Errorf("every address of %s is in use", gateway.Masked())
}

// Sweep removes the bridge and what killed processes left, unless a living one uses the network.
func Sweep(ctx context.Context, dir string) error {
	if rootless, _ := runtime.Rootless(); rootless {
		return nil
	}
	if _, err := os.Stat(filepath.Join(dir, "lock")); err != nil {
		return nil // never used
	}
	lock, err := flock.Lock(ctx, filepath.Join(dir, "lock"), flock.Exclusive)
	if err != nil {
		return err
	}
	defer lock.Close()
	used, err := sweepAddresses(dir)
	if err != nil || used > 0 {
		return err
	}
	return removeBridge()
}

// attach makes the pair of interfaces and sets up the one inside.
func (n *Sandbox) attach() error {
	bridge, err := interfaceIndex(bridgeName)
	if err != nil {
		return err
	}
	c, err := dial(unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer c.close()
	// The name is a new one even where the address is not: the interface of the last who had it may still be on its
	// way out, with its namespace, which the kernel takes apart in its own time.
	name := fmt.Sprintf("fg%x%04x", n.Address.Addr().AsSlice(), rand.Uint32()&0xffff)
	if err := c.do(addPair(name, bridge, "eth0", n.Namespace)); err != nil {
		return err
	}
	return runtime.InNetworkNamespace(n.Namespace, func() error {
		inside, err := dial(unix.NETLINK_ROUTE)
		if err != nil {
			return err
		}
		defer inside.close()
		index, err := interfaceIndex("eth0")
		if err != nil {
			return err
		}
		return inside.do(addAddress(index, n.Address), linkUp(index), addDefaultRoute(n.Gateway))
	})
}

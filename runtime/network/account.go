package network

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/forge-build/forge/internal/durable"
	"github.com/forge-build/forge/internal/flock"
)

// A network with a bridge on this machine has a directory in the account. The other files there are endpoints, named by their
// addresses, each locked by the process that it belongs to.
const (
	networkFile = "network" // what the network is
	lastFile    = "last"    // the address that was given last
)

// An account is a directory that says what of this machine's networks is in use. It does not survive a boot and need not. Safe for
// concurrent use, by processes too.
type account struct {
	root string

	mu  sync.Mutex
	own map[string]Endpoint // what this process has there, by path: it is not read again, and its owner lives; guarded by mu
}

// owned is what this process has at a path.
func (a *account) owned(path string) (e Endpoint, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	e, ok = a.own[path]
	return e, ok
}

// lock makes the account and takes its lock, under which everything in it and all rules of the firewall are changed.
func (a *account) lock(ctx context.Context) (*os.File, error) {
	if err := os.MkdirAll(a.root, 0o700); err != nil {
		return nil, err
	}
	return flock.Lock(ctx, filepath.Join(a.root, "lock"), flock.Exclusive)
}

func (a *account) dir(network string) string { return filepath.Join(a.root, network) }

// usage is what an account holds.
type usage struct {
	networks  []*Network
	fresh     []*Network          // of these, those whose elements are to be added
	ready     map[string]*Network // whose bridges were made sure of, by the names that they were asked for by
	ruled     bool                // the firewall was made sure of
	endpoints []Endpoint          // of living processes
	left      []string            // files of dead ones
	bindings  []Binding           // of dead ones: the firewall may have these ports
}

// usage reads the account. It leaves temporary files alone: to look who holds one keeps him from locking it for a moment.
func (a *account) usage() (*usage, error) {
	u := &usage{}
	return u, a.each(func(network, name string) error {
		if durable.Temporary(name) {
			return nil
		}
		return a.read(u, network, name)
	})
}

// each calls do with all files of networks' directories.
func (a *account) each(do func(network, name string) error) error {
	dirs, err := os.ReadDir(a.root)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, d := range dirs {
		if !d.IsDir() {
			continue
		}
		files, err := os.ReadDir(a.dir(d.Name()))
		if err != nil {
			return err
		}
		for _, f := range files {
			if err := do(d.Name(), f.Name()); err != nil {
				return err
			}
		}
	}
	return nil
}

// sweep reads the account and, under the lock, removes what dead processes left: their ports before the files, which are all that
// says of them.
func (a *account) sweep() (*usage, error) {
	u := &usage{}
	if err := a.each(func(network, name string) error { return a.read(u, network, name) }); err != nil {
		return nil, err
	}
	if len(u.bindings) > 0 {
		if err := errors.Join(rebuild(u), forgetPeers(u.bindings)); err != nil {
			return nil, err
		}
	}
	for _, path := range u.left {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	return u, nil
}

// read reads one file of a network's directory into u.
func (a *account) read(u *usage, network, name string) error {
	path := filepath.Join(a.dir(network), name)
	if name == networkFile {
		n := &Network{}
		if err := readJSON(path, n); err != nil {
			return err
		}
		u.networks = append(u.networks, n)
		return nil
	}
	_, err := netip.ParseAddr(name)
	endpoint := err == nil
	if !endpoint && !durable.Temporary(name) {
		return nil
	}
	if e, ok := a.owned(path); ok {
		u.endpoints = append(u.endpoints, e)
		return nil
	}
	var e Endpoint
	readErr := readJSON(path, &e)
	switch {
	case !flock.Held(path):
		u.left, u.bindings = append(u.left, path), append(u.bindings, e.Bindings...)
	case errors.Is(readErr, fs.ErrNotExist): // closed meanwhile, which takes no lock
	case endpoint && readErr != nil:
		return readErr
	case endpoint:
		u.endpoints = append(u.endpoints, e)
	}
	return nil
}

// address is the one that is wanted, or one that is free: the next after that of the last time. One that was just given back
// may be in use for a moment still, by an interface whose namespace the kernel takes apart in its own time.
func (a *account) address(u *usage, n *Network, wanted netip.Addr) (netip.Addr, error) {
	used := n.taken(n.Gateway)
	for _, e := range u.of(n) {
		used[e.Address.Addr()] = true
	}
	if wanted.IsValid() {
		if !host(n.Subnet, wanted) {
			return wanted, fmt.Errorf("no configured subnet or ip-range contain the IP address %s", wanted)
		}
		if used[wanted] {
			return wanted, fmt.Errorf("Address already in use: %s", wanted) //nolint:staticcheck // these are docker's words
		}
		return wanted, nil
	}
	lastFile := filepath.Join(a.dir(n.ID), lastFile)
	text, _ := os.ReadFile(lastFile)
	next, err := netip.ParseAddr(strings.TrimSpace(string(text)))
	part := n.within(n.Subnet)
	if err != nil || !part.Contains(next) {
		next = part.Addr().Prev()
	}
	for range 1 << (32 - part.Bits()) {
		next = n.next(n.Subnet, next)
		if host(n.Subnet, next) && !used[next] {
			return next, overwrite(lastFile, next)
		}
	}
	return next, fmt.Errorf("no available IPv4 addresses on this network's address pools: %s (%s)", n.Name, n.ID)
}

// overwrite writes an address over another, with blanks to the same length: ext4 writes a file out that is made empty first.
func overwrite(path string, address netip.Addr) (err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	_, err = fmt.Fprintf(f, "%-15s", address)
	return err
}

// without forgets an endpoint that is about to be released.
func (u *usage) without(e Endpoint) {
	u.endpoints = slices.DeleteFunc(u.endpoints, func(o Endpoint) bool { return o.ID == e.ID })
}

// of are the endpoints of a network, by address.
func (u *usage) of(n *Network) (list []Endpoint) {
	for _, e := range u.endpoints {
		if e.NetworkID == n.ID {
			list = append(list, e)
		}
	}
	slices.SortFunc(list, func(a, b Endpoint) int { return a.Address.Addr().Compare(b.Address.Addr()) })
	return list
}

// A lease is an endpoint that belongs to this process.
type lease struct {
	Endpoint
	network *Network
	outer   string   // its interface on this machine
	file    *os.File // locked
}

// save writes the endpoint anew, so that readers see it as it was or as it is.
func (l *lease) save(a *account) error {
	text, err := json.Marshal(l.Endpoint)
	if err != nil {
		return err
	}
	dir := a.dir(l.NetworkID)
	f, err := os.CreateTemp(dir, durable.Prefix)
	if err != nil {
		return err
	}
	path := filepath.Join(dir, l.Address.Addr().String())
	_, err = f.Write(text)
	if err = errors.Join(err, flock.Try(f, flock.Exclusive)); err == nil {
		err = durable.Move(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()), f.Close())
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.own == nil {
		a.own = make(map[string]Endpoint)
	}
	a.own[path] = l.Endpoint
	if l.file != nil {
		err = l.file.Close()
	}
	l.file = f
	return err
}

// release gives the address back.
func (l *lease) release(a *account) error {
	path := l.disown(a)
	ours, err := l.file.Stat()
	if there, thereErr := os.Lstat(path); err == nil && thereErr == nil && os.SameFile(ours, there) {
		err = os.Remove(path) // before it is unlocked: so nobody can take it for one of the dead
	}
	return errors.Join(err, l.file.Close())
}

// disown forgets that the endpoint belongs to this process, and returns the path of its file. Where that went with its network another
// endpoint may have it by now.
func (l *lease) disown(a *account) string {
	path := filepath.Join(a.dir(l.NetworkID), l.Address.Addr().String())
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.own[path].ID == l.ID {
		delete(a.own, path)
	}
	return path
}

// abandon leaves the address, and ports that the firewall may have, to the next who sweeps.
func (l *lease) abandon(a *account) error {
	l.disown(a)
	return l.file.Close()
}

// enter notes that a network has a bridge and its elements in the firewall's sets: who dies before that leaves it to the next.
func (a *account) enter(n *Network) error {
	text, err := json.Marshal(n)
	if err != nil {
		return err
	}
	return durable.ReplaceFile(filepath.Join(a.dir(n.ID), networkFile), text, 0o600)
}

// drop removes the bridge of a network that nobody uses, and its elements in the firewall's sets.
func (a *account) drop(u *usage, n *Network) error {
	i := slices.IndexFunc(u.networks, func(o *Network) bool { return o.ID == n.ID })
	if i < 0 {
		return removeLink(n.bridge()) // not entered, and seldom there
	}
	n = u.networks[i] // as it was entered
	u.networks = slices.Delete(u.networks, i, i+1)
	change := networkElements(deleteElements, n)
	if len(u.networks) == 0 {
		change = withoutTables()
	}
	if err := errors.Join(removeLink(n.bridge()), u.apply(change)); err != nil {
		return err // the directory says what is left
	}
	return os.RemoveAll(a.dir(n.ID))
}

// apply changes the firewall, or where that does not do makes all of it anew: if somebody has taken the table away. What is in use
// is as it will be after the change.
func (u *usage) apply(change []*request) error {
	if len(change) == 0 && (u.ruled || u.tablesThere()) || len(change) > 0 && transact(change...) == nil {
		u.ruled = true
		return nil
	}
	err := rebuild(u)
	u.ruled = err == nil
	return err
}

// tablesThere reports whether the firewall has the tables.
func (u *usage) tablesThere() bool {
	families := []byte{nfProtoIPv4}
	if slices.ContainsFunc(u.networks, (*Network).ruled6) {
		families = append(families, nfProtoIPv6)
	}
	return tableThere(families...)
}

// withoutTables removes the tables. They are added first, so that there are some to delete.
func withoutTables() []*request {
	return append([]*request{addTable(), deleteTable()}, in6([]*request{addTable(), deleteTable()})...)
}

// rebuild makes the whole table anew, and sets bridges as they are to be.
func rebuild(u *usage) error {
	for _, n := range u.networks {
		if err := n.guardBridge6(); err != nil {
			return err
		}
	}
	return u.remake(transact, func() error { return filters(nfProtoIPv6) })
}

// remake makes the tables anew. Of a kernel that refuses the one of IPv6, by what why says, networks get the rest that can do without it.
func (u *usage) remake(transact func(...*request) error, why func() error) error {
	for {
		// The tables are added so that there are some to delete, in one transaction with the new ones: no packet finds none.
		err := transact(slices.Concat(withoutTables(), ruleset(), ruleset6(u), allElements(u))...)
		if err == nil || !slices.ContainsFunc(u.networks, (*Network).ruled6) {
			return err
		}
		none := why()
		if none == nil {
			return err
		}
		for _, n := range u.networks {
			n.Rules6 = false
		}
		if slices.ContainsFunc(u.networks, (*Network).ruled6) {
			return none
		}
	}
}

func readJSON(path string, v any) error {
	b, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(b, v)
	}
	if err != nil {
		return fmt.Errorf("network: %s: %w", path, err)
	}
	return nil
}

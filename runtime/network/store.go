package network

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/forge-build/forge/container/words"
	"github.com/forge-build/forge/internal/durable"
	"github.com/forge-build/forge/runtime"
)

// DefaultName is the network that is there without having been created. Containers in it do not know each other's names.
const DefaultName = "bridge"

// A Network is a bridge that containers are connected to, or one of the two that are none: "host" and "none".
type Network struct {
	Name    string       `json:"name"`
	ID      string       `json:"id"` // 64 hexadecimal digits
	Created time.Time    `json:"created"`
	Driver  string       `json:"driver"`  // "bridge", "host" or "null"
	Subnet  netip.Prefix `json:"subnet"`  // not valid for the default network before its first use
	Gateway netip.Addr   `json:"gateway"` // where containers reach this machine
	Pool
	Range6
	Internal bool              `json:"internal,omitempty"`
	Rules6   bool              `json:"rules6,omitempty"` // set when it is entered into the firewall: the table of IPv6 keeps out what the network has none of, as others can change the settings of bridges
	Labels   map[string]string `json:"labels,omitempty"`
	Options  map[string]string `json:"options,omitempty"` // kept, without a meaning here
}

// Predefined reports whether the network is there without having been created, and cannot be removed.
func (n *Network) Predefined() bool { return driverOf(n.Name) != "" }

// driverOf is the driver of a predefined network, and empty for another name.
func driverOf(name string) string {
	switch name {
	case DefaultName:
		return "bridge"
	case "host":
		return "host"
	case "none":
		return "null"
	}
	return ""
}

// predefined is a network that has no record. Its ID is the same everywhere.
func predefined(name string) *Network {
	id := sha256.Sum256([]byte("forge network " + name))
	return &Network{Name: name, ID: hex.EncodeToString(id[:]), Driver: driverOf(name)}
}

// A Store keeps networks: a record for each that was created, and an account of what living processes use. Its methods are
// safe for concurrent use, by processes too.
type Store struct {
	records string
	account *account
	visits  visits

	mu      sync.Mutex           // guards checked
	checked map[string]time.Time // when settings of the kernel were last made sure of
}

// Open names the directories of a store, which need not exist: one for records, which stay, and one for the account of what
// is in use, such as /run/forge/network, which all processes of root on this machine share.
func Open(records, inUse string) *Store {
	return &Store{records: records, account: &account{root: inUse}}
}

// ensure makes sure of a setting of the kernel, unless that was done in the last second: a build may have a hundred containers.
func (s *Store) ensure(setting string, do func() error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if time.Since(s.checked[setting]) < time.Second {
		return nil
	}
	if err := do(); err != nil {
		return err
	}
	if s.checked == nil {
		s.checked = map[string]time.Time{}
	}
	s.checked[setting] = time.Now()
	return nil
}

// Config says what network to create. Only the name is needed.
type Config struct {
	Name    string
	Subnet  netip.Prefix // not valid means one that is free
	Gateway netip.Addr   // not valid means the first address of the subnet
	Pool
	IPv6 bool // IPv6, too, also without a Subnet6
	Range6
	Internal bool // without a way out
	Labels   map[string]string
	Options  map[string]string
}

// A NotFoundError says that no network has the name or the ID.
type NotFoundError struct{ Name string }

func (e *NotFoundError) Error() string { return fmt.Sprintf("network %s not found", e.Name) }

// An InUseError says that containers are connected to a network which is to be removed.
type InUseError struct {
	Network   string
	Endpoints []Endpoint
}

func (e *InUseError) Error() string {
	var names []string
	for _, p := range e.Endpoints {
		names = append(names, fmt.Sprintf("name:%q id:%q", p.Name, short(p.Container)))
	}
	return fmt.Sprintf("error while removing network: network %s has active endpoints (%s)", e.Network, strings.Join(names, ", "))
}

// Create makes a network. It exists for later processes, but its bridge is made when it is first used.
func (s *Store) Create(ctx context.Context, c Config) (*Network, error) {
	if err := userNetworks(); err != nil {
		return nil, err
	}
	if !regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}$`).MatchString(c.Name) {
		return nil, fmt.Errorf("invalid network name %q: only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed, and 128 of them at most", c.Name)
	}
	if driverOf(c.Name) != "" {
		return nil, words.Forbidden("operation is not permitted on predefined %s network", c.Name)
	}
	lock, err := s.account.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	others, err := s.created()
	if err != nil {
		return nil, err
	}
	if slices.ContainsFunc(others, func(n *Network) bool { return n.Name == c.Name }) {
		return nil, words.Refused("network with name %s already exists", c.Name)
	}
	id := make([]byte, 32)
	rand.Read(id)
	n := &Network{
		Name: c.Name, ID: hex.EncodeToString(id), Created: time.Now().UTC(), Driver: "bridge",
		Pool: c.Pool, Internal: c.Internal, Labels: c.Labels, Options: c.Options,
	}
	if n.Subnet, n.Gateway, err = c.addresses(others); err != nil {
		return nil, err
	}
	if n.Range6, err = c.addresses6(n.ID, others); err != nil {
		return nil, err
	}
	text, err := json.Marshal(n)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(s.records, 0o700); err != nil {
		return nil, err
	}
	return n, durable.WriteFile(s.record(n.Name), text, 0o600)
}

// addresses are the subnet and the gateway of a network to be created.
func (c *Config) addresses(others []*Network) (subnet netip.Prefix, gateway netip.Addr, err error) {
	used, err := hostRoutes()
	if err != nil {
		return subnet, gateway, err
	}
	for _, n := range others {
		used = append(used, n.Subnet)
	}
	subnet, gateway = c.Subnet, c.Gateway
	if !subnet.IsValid() {
		if err := c.alone(gateway); err != nil {
			return subnet, gateway, err
		}
		subnet, err = freeSubnet(createdSecondFirst, createdSecondLast, used)
		return subnet, subnet.Addr().Next(), err
	}
	switch a := subnet.Addr(); {
	case !a.Is4():
		return subnet, gateway, fmt.Errorf("invalid subnet %s: networks here have IPv4 subnets only", subnet)
	case subnet != subnet.Masked():
		return subnet, gateway, fmt.Errorf("invalid subnet %s: it should be %s", subnet, subnet.Masked())
	case subnet.Bits() < 8 || subnet.Bits() > 30 || a.IsLoopback() || a.IsMulticast() || a.As4()[0] == 0 || a.As4()[0] >= 240:
		return subnet, gateway, fmt.Errorf("invalid subnet %s: it must be of /8 to /30 addresses that machines may have", subnet)
	}
	if o, taken := overlapping(subnet, used); taken {
		return subnet, gateway, fmt.Errorf("invalid pool request: Pool overlaps with other one on this address space: %s with %s", subnet, o)
	}
	if !gateway.IsValid() {
		gateway = subnet.Addr().Next()
	}
	if !host(subnet, gateway) {
		return subnet, gateway, fmt.Errorf("invalid gateway %s: it is no address of a machine in %s", gateway, subnet)
	}
	return subnet, gateway, c.check(subnet, gateway)
}

// host reports whether a machine may have an address of a subnet: the first and the last one are not for machines.
func host(subnet netip.Prefix, a netip.Addr) bool {
	return subnet.Contains(a) && a != subnet.Addr() && a != lastAddress(subnet)
}

func (s *Store) record(name string) string { return filepath.Join(s.records, name+".json") }

// created reads the records.
func (s *Store) created() (list []*Network, err error) {
	files, err := os.ReadDir(s.records)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	for _, f := range files {
		if durable.Temporary(f.Name()) || !strings.HasSuffix(f.Name(), ".json") {
			continue
		}
		n := &Network{}
		if err := readJSON(filepath.Join(s.records, f.Name()), n); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		} else if err == nil {
			list = append(list, n)
		}
	}
	return list, err
}

// List returns all networks by name, those that are there without having been created too.
func (s *Store) List() ([]*Network, error) {
	list, err := s.created()
	if err != nil {
		return nil, err
	}
	def, err := defaultBridge()
	list = append(list, def, predefined("host"), predefined("none"))
	slices.SortFunc(list, func(a, b *Network) int { return strings.Compare(a.Name, b.Name) })
	return list, err
}

// Find returns the network of a name, an ID, or the beginning of an ID that no other one has. It fails with a
// *NotFoundError if there is none.
func (s *Store) Find(nameOrID string) (*Network, error) {
	if nameOrID == DefaultName {
		return defaultBridge()
	}
	list, err := s.List()
	if err != nil {
		return nil, err
	}
	var found []*Network
	for _, n := range list {
		if n.Name == nameOrID || n.ID == nameOrID {
			return n, nil
		}
		if nameOrID != "" && strings.HasPrefix(n.ID, nameOrID) {
			found = append(found, n)
		}
	}
	switch len(found) {
	case 0:
		return nil, &NotFoundError{nameOrID}
	case 1:
		return found[0], nil
	}
	return nil, fmt.Errorf("network %s is ambiguous (%d matches found based on ID prefix)", nameOrID, len(found))
}

// Endpoints returns what is connected to a network, by address.
func (s *Store) Endpoints(n *Network) ([]Endpoint, error) {
	u, err := s.account.usage()
	if err != nil {
		return nil, err
	}
	return u.of(n), nil
}

// Remove removes a network and returns what it was. It fails with an *InUseError while containers are connected to it.
func (s *Store) Remove(ctx context.Context, nameOrID string) (*Network, error) {
	lock, err := s.account.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	n, err := s.Find(nameOrID)
	if err != nil {
		return nil, err
	}
	if n.Predefined() {
		return nil, words.Forbidden("%s is a pre-defined network and cannot be removed", n.Name)
	}
	u, err := s.account.sweep()
	if err != nil {
		return nil, err
	}
	if used := u.of(n); len(used) > 0 {
		return nil, &InUseError{n.Name, used}
	}
	if err := os.Remove(s.record(n.Name)); err != nil {
		return nil, err
	}
	return n, errors.Join(durable.SyncDir(s.records), s.account.drop(u, n))
}

// Prune removes the networks for which unwanted is true, but for those that containers are connected to, and returns their
// names.
func (s *Store) Prune(ctx context.Context, unwanted func(*Network) bool) (removed []string, err error) {
	list, err := s.created()
	errs := []error{err}
	for _, n := range list {
		if !unwanted(n) {
			continue
		}
		_, err := s.Remove(ctx, n.ID)
		var used *InUseError
		var gone *NotFoundError
		switch {
		case err == nil:
			removed = append(removed, n.Name)
		case !errors.As(err, &used) && !errors.As(err, &gone):
			errs = append(errs, err)
		}
	}
	return removed, errors.Join(errs...)
}

// Reload applies all rules of the firewall and the settings of bridges anew, as after somebody has flushed or changed them.
func (s *Store) Reload(ctx context.Context) error {
	lock, err := s.account.lock(ctx)
	if err != nil {
		return err
	}
	defer lock.Close()
	u, err := s.account.sweep()
	if err != nil || len(u.networks) == 0 {
		return err
	}
	for _, n := range u.networks {
		n.Rules6 = true // which those have not that an older forge has entered
	}
	if err := rebuild(u); err != nil {
		return err
	}
	for _, n := range u.networks {
		if err := s.account.enter(n); err != nil {
			return err
		}
	}
	return nil
}

// Sweep removes bridges that no living process uses, their rules, and what killed processes left.
func (s *Store) Sweep(ctx context.Context) error {
	if rootless, _ := runtime.Rootless(); rootless {
		return nil
	}
	if _, err := os.Stat(s.account.root); err != nil {
		return nil // never used
	}
	lock, err := s.account.lock(ctx)
	if err != nil {
		return err
	}
	defer lock.Close()
	u, err := s.account.sweep()
	if err != nil {
		return err
	}
	var errs []error
	for _, n := range slices.Clone(u.networks) {
		if len(u.of(n)) == 0 {
			errs = append(errs, s.account.drop(u, n))
		}
	}
	return errors.Join(errs...)
}

// userNetworks says why networks of one's own cannot be had here, if so.
func userNetworks() error {
	if rootless, why := runtime.Rootless(); rootless {
		return fmt.Errorf("networks that are created need root (%v): run as root, or use the default network, host or none", why)
	}
	return nil
}

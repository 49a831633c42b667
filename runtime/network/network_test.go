package network

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/forge-build/forge/runtime"
)

func TestMain(m *testing.M) {
	switch os.Getenv("NETWORK_TEST_HELPER") {
	case "":
		os.Exit(m.Run())
	case "die":
		// Takes a network and is killed.
		o := byDefault
		if len(os.Args) > 2 {
			o.Ports, _ = ParsePorts(os.Args[2])
		}
		if _, err := Open(os.Args[1]+".records", os.Args[1]).Prepare(context.Background(), o); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println("ready")
		time.Sleep(time.Hour)
	case "pasta":
		helperPasta()
	}
	os.Exit(m.Run()) // as another process in a network namespace of its own
}

// byDefault is what a container gets that asks for nothing.
var byDefault = Options{Networks: []Attachment{{Network: DefaultName}}}

// inside runs the test again as a process that is root of a network namespace made for it, so that nothing of the host's
// is touched.
func inside(t *testing.T) bool {
	t.Helper()
	if os.Getenv("NETWORK_TEST_HELPER") == "inside" {
		return true
	}
	must := slices.Contains(strings.Split(os.Getenv("FORGE_TEST_MUST"), ","), "root")
	if os.Geteuid() != 0 {
		if must {
			t.Fatal("not root")
		}
		t.Skip("not root")
	}
	t.Parallel() // each has a machine of its own
	cmd := exec.Command("/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), "NETWORK_TEST_HELPER=inside")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS}
	out, err := cmd.CombinedOutput()
	switch {
	case err != nil:
		t.Fatalf("%v:\n%s", err, out)
	case strings.Contains(string(out), "--- SKIP"):
		if must {
			t.Fatalf("%s", out)
		}
		t.Skipf("%s", out)
	}
	return false
}

func mustAddr(text string) netip.Addr { return netip.MustParseAddr(text) }

// neighbour is a namespace beside the host, which is 198.51.100.2 to it.
func neighbour(t *testing.T) *os.File {
	t.Helper()
	space, err := runtime.NewNetworkNamespace()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { space.Close() })
	c, err := dial(unix.NETLINK_ROUTE)
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	// The host's side of the pair needs no bridge: it is made a slave of none.
	if err := c.do(addBridge("uplink", 0)); err != nil {
		t.Skip("no bridges: ", err)
	}
	uplink, err := interfaceIndex("uplink")
	if err != nil {
		t.Fatal(err)
	}
	err = errors.Join(
		c.do(addAddress(uplink, netip.MustParsePrefix("198.51.100.2/24")), linkUp(uplink)),
		c.do(addPair("uplink0", uplink, 1500, peer{name: "eth0", namespace: space})...),
		runtime.InNetworkNamespace(space, func() error {
			c, err := dial(unix.NETLINK_ROUTE)
			if err != nil {
				return err
			}
			defer c.close()
			index, err := interfaceIndex("eth0")
			if err != nil {
				return err
			}
			return c.do(addAddress(index, netip.MustParsePrefix("198.51.100.1/24")), linkUp(index))
		}))
	if err != nil {
		t.Fatal(err)
	}
	return space
}

// outside is a network beyond the host, in which a server tells callers the address it sees.
func outside(t *testing.T) (server netip.AddrPort) {
	t.Helper()
	space := neighbour(t)
	var l net.Listener
	if err := runtime.InNetworkNamespace(space, func() (err error) {
		l, err = net.Listen("tcp", "198.51.100.1:0")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			fmt.Fprint(conn, conn.RemoteAddr())
			conn.Close()
		}
	}()
	return netip.MustParseAddrPort(l.Addr().String())
}

// call tells what address the server sees when it is called from a namespace.
func call(space *os.File, server netip.AddrPort) (seen string, err error) {
	err = runtime.InNetworkNamespace(space, func() error {
		conn, err := net.DialTimeout("tcp", server.String(), 5*time.Second)
		if err != nil {
			return err
		}
		defer conn.Close()
		b, err := io.ReadAll(conn)
		seen, _, _ = strings.Cut(string(b), ":")
		return err
	})
	return seen, err
}

func prepare(t *testing.T, dir string) *Sandbox {
	t.Helper()
	n, err := Open(dir+".records", dir).Prepare(t.Context(), byDefault)
	if errors.Is(err, unix.EROFS) || errors.Is(err, unix.EACCES) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// settled waits until the kernel has done what it does in its own time.
func settled(t *testing.T, done func() bool) {
	t.Helper()
	for end := time.Now().Add(40 * time.Second); !done() && time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
	}
}

func exists(name string) bool {
	_, err := interfaceIndex(name)
	return err == nil
}

func TestBridge(t *testing.T) {
	if !inside(t) {
		return
	}
	server := outside(t)
	dir := filepath.Join(t.TempDir(), "network")
	a, b := prepare(t, dir), prepare(t, dir)
	if a, b := a.Endpoints()[0], b.Endpoints()[0]; a.Address == b.Address || a.Gateway != b.Gateway {
		t.Errorf("addresses %v and %v", a.Address, b.Address)
	}
	for _, n := range []*Sandbox{a, b} {
		if seen, err := call(n.Namespace, server); err != nil || seen != "198.51.100.2" {
			t.Errorf("seen from outside as %q, %v", seen, err)
		}
	}
	if err := a.Close(); err != nil {
		t.Error(err)
	}
	if seen, err := call(b.Namespace, server); err != nil || seen != "198.51.100.2" {
		t.Errorf("after another ended, seen from outside as %q, %v", seen, err)
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	if !tableThere(nfProtoIPv4) || !exists(bridgeName) {
		t.Error("the bridge does not wait for the next")
	}
	if err := Open(dir+".records", dir).Sweep(t.Context()); err != nil {
		t.Error(err)
	}
	if exists(bridgeName) || tableThere(nfProtoIPv4) {
		t.Error("the bridge is left")
	}
	left, _ := os.ReadDir(dir)
	if len(left) != 1 || left[0].Name() != "lock" {
		t.Errorf("left: %v", left)
	}
}

// A container has eth0 and gets out.
func TestContainer(t *testing.T) {
	if !inside(t) {
		return
	}
	server := outside(t)
	n := prepare(t, filepath.Join(t.TempDir(), "network"))
	defer n.Close()
	root := t.TempDir()
	for _, d := range []string{"proc", "sys", "dev", "bin"} {
		if err := os.Mkdir(filepath.Join(root, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	busybox, err := os.ReadFile("/bin/busybox")
	if err != nil {
		t.Skip(err)
	}
	if err := os.WriteFile(filepath.Join(root, "bin/busybox"), busybox, 0o755); err != nil {
		t.Fatal(err)
	}
	dir, err := os.Open(root)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	var out strings.Builder
	p, err := runtime.Start(context.Background(), runtime.Spec{
		Root: dir, Args: []string{"/bin/busybox", "sh", "-c", fmt.Sprintf("busybox ls /sys/class/net; busybox nc %s %d </dev/null", server.Addr(), server.Port())},
		Env: []string{"PATH=/bin"}, Network: runtime.Network{Mode: "default", Namespace: n.Namespace},
	}, runtime.Stdio{Out: &out, Err: &out})
	if err != nil {
		t.Fatal(err)
	}
	if exit, err := p.Wait(); err != nil || exit.Code != 0 || !strings.HasPrefix(out.String(), "eth0\nlo\n198.51.100.2:") {
		t.Errorf("exit %v, %v: %s", exit, err, out.String())
	}
}

// What a killed process leaves is removed by the next.
func TestKilled(t *testing.T) {
	if !inside(t) {
		return
	}
	outside(t)
	dir := filepath.Join(t.TempDir(), "network")
	prepare(t, dir).Close()
	for range 2 {
		cmd := exec.Command("/proc/self/exe", dir)
		cmd.Env = append(os.Environ(), "NETWORK_TEST_HELPER=die")
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(io.LimitReader(out, 6)); string(b) != "ready\n" {
			t.Fatalf("%s, %v", b, err)
		}
		cmd.Process.Kill()
		cmd.Wait()
	}
	if !exists(bridgeName) {
		t.Fatal("there is nothing to sweep")
	}
	n := prepare(t, dir)
	if files, _ := filepath.Glob(filepath.Join(dir, "*", "10.*")); len(files) != 1 {
		t.Errorf("addresses in use: %v, want one", files)
	}
	if err := Open(dir+".records", dir).Sweep(t.Context()); err != nil || !exists(bridgeName) {
		t.Errorf("sweep took the bridge of the living: %v", err)
	}
	if err := n.Close(); err != nil {
		t.Error(err)
	}
	for range 2 {
		if err := Open(dir+".records", dir).Sweep(t.Context()); err != nil || exists(bridgeName) {
			t.Errorf("sweep left the bridge: %v", err)
		}
	}
}

// A firewall that is loaded anew takes the rule with it.
func TestRuleFlushed(t *testing.T) {
	if !inside(t) {
		return
	}
	server := outside(t)
	dir := filepath.Join(t.TempDir(), "network")
	prepare(t, dir).Close()
	if err := transact(deleteTable()); err != nil || tableThere(nfProtoIPv4) {
		t.Fatal(err)
	}
	n := prepare(t, dir)
	defer n.Close()
	if seen, err := call(n.Namespace, server); err != nil || seen != "198.51.100.2" {
		t.Errorf("seen from outside as %q, %v", seen, err)
	}
}

// The host's own subnets are left alone.
func TestSubnetInUse(t *testing.T) {
	if !inside(t) {
		return
	}
	c, err := dial(unix.NETLINK_ROUTE)
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	if err := c.do(addBridge("other", 0)); err != nil {
		t.Skip(err)
	}
	index, err := interfaceIndex("other")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.do(addAddress(index, netip.MustParsePrefix("10.209.0.9/23")), linkUp(index)); err != nil {
		t.Fatal(err)
	}
	n := prepare(t, filepath.Join(t.TempDir(), "network"))
	defer n.Close()
	if got := n.Endpoints()[0].Address.Masked().String(); got != "10.209.2.0/24" {
		t.Errorf("subnet %s, want the first that is free", got)
	}
}

// A firewall that drops what is forwarded is told.
func TestDescribe(t *testing.T) {
	if !inside(t) {
		return
	}
	if got := Describe(); got != "bridge forge0 with address translation" {
		t.Error(got)
	}
	message := func(typ int, table uint16) *request {
		return newRequest("of others", unix.NFNL_SUBSYS_NFTABLES<<8|uint16(typ), ack|unix.NLM_F_CREATE, nfProtoIPv4, 0, 0, 0).str(table, "filter")
	}
	chain := message(unix.NFT_MSG_NEWCHAIN, unix.NFTA_CHAIN_TABLE).str(unix.NFTA_CHAIN_NAME, "FORWARD")
	chain.nest(unix.NFTA_CHAIN_HOOK, func() {
		chain.big(unix.NFTA_HOOK_HOOKNUM, hookForward).big(unix.NFTA_HOOK_PRIORITY, 0)
	}).str(unix.NFTA_CHAIN_TYPE, "filter").big(unix.NFTA_CHAIN_POLICY, verdictDrop)
	if err := transact(message(unix.NFT_MSG_NEWTABLE, unix.NFTA_TABLE_NAME), chain); err != nil {
		t.Fatal(err)
	}
	if got := Describe(); !strings.Contains(got, "firewall drops what is forwarded") {
		t.Error(got)
	}
}

func TestRoutes(t *testing.T) {
	const text = `Iface	Destination	Gateway 	Flags	RefCnt	Use	Metric	Mask		MTU	Window	IRTT
eth0	00000000	010200C0	0003	0	0	0	00000000	0	0	0
eth0	000200C0	00000000	0001	0	0	0	00FFFFFF	0	0	0
x	0000D10A	00000000	0001	0	0	0	00FEFFFF	0	0	0
bad
`
	if got := fmt.Sprint(routes(text)); got != "[0.0.0.0/0 192.0.2.0/24 10.209.0.0/23]" {
		t.Error(got)
	}
}

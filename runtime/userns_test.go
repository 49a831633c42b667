package runtime

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// helperUserns enters a user namespace and tells what it is like there.
func helperUserns() {
	before := os.Getenv("PID")
	if before == "" {
		os.Setenv("PID", fmt.Sprint(os.Getpid()))
	}
	if err := EnterUserNamespace(); err != nil {
		fmt.Println("error", err)
		os.Exit(3)
	}
	rootless, why := Rootless()
	m, _ := os.ReadFile("/proc/self/uid_map")
	fmt.Println("same pid", before == fmt.Sprint(os.Getpid()), "euid", os.Geteuid(), "rootless", rootless, why, strings.Fields(string(m)))
	fmt.Println(os.Args[1:])
	os.Exit(7)
}

func TestEnterUserNamespace(t *testing.T) {
	need(t, "root", os.Geteuid() == 0, "not root")
	out, err := helper(t, "userns", 65534, "one", "two words").CombinedOutput()
	t.Log(string(out), err)
}

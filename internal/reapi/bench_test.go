package reapi_test

import (
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/forge-build/forge/internal/reapi"
)

// BenchmarkExecute is what a server needs for a command that does nothing: FORGE_TEST_REMOTE is its address.
func BenchmarkExecute(b *testing.B) {
	address := os.Getenv("FORGE_TEST_REMOTE")
	if address == "" {
		b.Skip("FORGE_TEST_REMOTE names no server")
	}
	c, err := reapi.Dial(address, reapi.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	for b.Loop() {
		blob := func(m any) reapi.Blob {
			data, _, err := c.Marshal(m)
			if err != nil {
				b.Fatal(err)
			}
			return reapi.BlobOf(data)
		}
		command := blob(reapi.Command{Arguments: []string{"/bin/true"}, Env: []reapi.Property{{Name: "PATH", Value: "/bin"}}})
		root := blob(reapi.Directory{})
		action := blob(reapi.Action{Command: &command.Digest, Input: &root.Digest, Salt: fmt.Append(nil, time.Now().UnixNano())})
		if err := c.Store(b.Context(), []reapi.Blob{command, root, action}, nil); err != nil {
			b.Fatal(err)
		}
		if _, err := c.Execute(b.Context(), reapi.Execution{Action: action.Digest}); err != nil {
			b.Fatal(err)
		}
	}
}

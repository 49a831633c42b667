package main

import (
	"fmt"
	"os"
	"path/filepath"
)

// goProgram is a program that needs much of the standard library.
const goProgram = `package main

import (
	"encoding/json"
	"fmt"
	"net/http"
)

func main() {
	b, _ := json.Marshal(http.Header{"n": {"%d"}})
	fmt.Println(string(b))
}
`

// goBuild is a context of a program, with the Go tree of this machine as its base.
func (b *bench) goBuild(name string) (string, error) {
	tree, err := b.goTree()
	if err != nil {
		return "", err
	}
	if err := b.quietly("build", "-q", "-t", "bench/go", tree); err != nil {
		return "", err
	}
	return b.context(name, "FROM bench/go\nENV HOME=/root CGO_ENABLED=0 GOTOOLCHAIN=local\nWORKDIR /src\nCOPY go.mod main.go ./\n"+
		"RUN --mount=type=cache,target=/root/.cache /usr/local/go/bin/go build -o /bin/program .\n",
		map[string]string{"go.mod": "module program\n\ngo 1.26\n", "main.go": fmt.Sprintf(goProgram, 0)})
}

// bare is the compiler alone.
func (b *bench) bare(dir string) contestant {
	cache := filepath.Join(b.dir, "go-cache")
	return contestant{
		name: "go build alone", before: func() error { return os.RemoveAll(cache) }, floor: true,
		args: []string{"env", "-C", dir, "GOCACHE=" + cache, "CGO_ENABLED=0", "GOTOOLCHAIN=local", "go", "build", "-o", filepath.Join(b.dir, "program"), "."},
	}
}

func goColdCase(b *bench) ([]contestant, error) {
	dir, err := b.goBuild("gocold")
	if err != nil {
		return nil, err
	}
	forget := func() error { return os.RemoveAll(filepath.Join(os.Getenv("FORGE_ROOT"), "mounts")) }
	return append(b.builds(dir, forget, "--no-cache")[:1], b.bare(dir)), nil
}

func goLineCase(b *bench) ([]contestant, error) {
	dir, err := b.goBuild("goline")
	if err != nil {
		return nil, err
	}
	n := 0
	change := func() error {
		n++
		return os.WriteFile(filepath.Join(dir, "main.go"), fmt.Appendf(nil, goProgram, n), 0o644)
	}
	floor := b.bare(dir)
	floor.before = change
	list := append(b.builds(dir, change)[:1], floor)
	for _, k := range list { // with what the standard library is compiled to
		if _, _, err := k.timed(); err != nil {
			return nil, err
		}
	}
	return list, nil
}

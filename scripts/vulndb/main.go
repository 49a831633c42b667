// Command vulndb makes of the reports in the module golang.org/x/vulndb what govulncheck reads: the reports, and an index of modules.
//
// usage: vulndb REPORTS DIR
package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
)

// A report is what an index takes from an OSV record.
type report struct {
	ID       string `json:"id"`
	Modified string `json:"modified"`
	Affected []struct {
		Package struct{ Name string }
	} `json:"affected"`
}

type entry struct {
	ID       string `json:"id"`
	Modified string `json:"modified"`
}

type module struct {
	Path  string  `json:"path"`
	Vulns []entry `json:"vulns"`
}

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: vulndb REPORTS DIR")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "vulndb:", err)
		os.Exit(1)
	}
}

func run(reports, dir string) error {
	files, err := filepath.Glob(filepath.Join(reports, "*.json"))
	if err != nil {
		return err
	}
	if len(files) == 0 {
		return fmt.Errorf("no reports in %s", reports)
	}
	modules, latest := map[string]module{}, ""
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		var r report
		if err := json.Unmarshal(text, &r); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		latest = max(latest, r.Modified)
		for _, a := range r.Affected {
			m := modules[a.Package.Name]
			m.Path = a.Package.Name
			if e := (entry{r.ID, r.Modified}); !slices.Contains(m.Vulns, e) {
				m.Vulns = append(m.Vulns, e)
			}
			modules[m.Path] = m
		}
		if err := write(filepath.Join(dir, "ID", r.ID+".json"), text); err != nil {
			return err
		}
	}
	var index []module
	for _, path := range slices.Sorted(maps.Keys(modules)) {
		index = append(index, modules[path])
	}
	if err := writeJSON(filepath.Join(dir, "index", "modules.json"), index); err != nil {
		return err
	}
	return writeJSON(filepath.Join(dir, "index", "db.json"), map[string]string{"modified": latest})
}

func writeJSON(path string, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return write(path, text)
}

func write(path string, text []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, text, 0o644)
}

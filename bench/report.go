package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// A row is what was measured of a command.
type row struct {
	Case    string    `json:"case"`
	Command string    `json:"command"`
	Times   []float64 `json:"seconds"`         // in the order in which they were taken
	RSS     int64     `json:"rss,omitempty"`   // MiB
	Ratio   float64   `json:"ratio,omitempty"` // to the floor of the case
	floor   bool      // it is the floor
}

// A report prints rows, and keeps them.
type report struct {
	rows []row
	kept map[string]float64 // ratios to the floor, by case and command, of a run of before
}

// open reads the ratios that a file has kept; "" is none.
func (r *report) open(path string) error {
	r.kept = map[string]float64{}
	if path == "" {
		return nil
	}
	text, err := os.ReadFile(filepath.Clean(path))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return errors.Join(err, json.Unmarshal(text, &r.kept))
}

func (r *report) header() {
	fmt.Printf("%-38s %-28s %10s %10s %10s %7s %7s %9s\n", "case", "command", "median", "min", "max", "× floor", "kept", "peak RSS")
}

// add prints the rows of a case.
func (r *report) add(rows []row) {
	floor := slices.IndexFunc(rows, func(r row) bool { return r.floor })
	for _, w := range rows {
		ratio, kept := "", ""
		if floor >= 0 {
			w.Ratio = median(w.Times) / median(rows[floor].Times)
			ratio = fmt.Sprintf("%.2f", w.Ratio)
		}
		if before, ok := r.kept[w.key()]; ok && !w.floor {
			kept = fmt.Sprintf("%.2f", before)
		}
		fmt.Printf("%-38s %-28s %10s %10s %10s %7s %7s %6d MB\n", w.Case, w.Command,
			short(median(w.Times)), short(slices.Min(w.Times)), short(slices.Max(w.Times)), ratio, kept, w.RSS)
		r.rows = append(r.rows, w)
	}
}

func (w *row) key() string { return w.Case + ": " + w.Command }

func short(seconds float64) string {
	return time.Duration(seconds * float64(time.Second)).Round(10 * time.Microsecond).String()
}

// close writes what is to be kept of the run.
func (r *report) close(o options) (err error) {
	if o.keep {
		for _, w := range r.rows {
			if w.Ratio != 0 && !w.floor {
				r.kept[w.key()] = float64(int(w.Ratio*100+0.5)) / 100
			}
		}
		text, err := json.MarshalIndent(r.kept, "", "\t")
		if err != nil {
			return err
		}
		if err := os.WriteFile(o.kept, append(text, '\n'), 0o644); err != nil {
			return err
		}
	}
	if o.history == "" {
		return nil
	}
	line, err := json.Marshal(map[string]any{"time": time.Now().UTC().Format(time.RFC3339), "commit": commit(), "load": load(), "rows": r.rows})
	if err != nil {
		return err
	}
	f, err := os.OpenFile(o.history, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(append(line, '\n'))
	return errors.Join(err, f.Close())
}

package state

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
)

func writeJSON(path string, v any, write func(string, []byte, fs.FileMode) error) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return write(path, b, 0o600)
}

func readJSON(path string, v any) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("%s is damaged: %w", path, err)
	}
	return nil
}

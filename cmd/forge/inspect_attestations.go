package main

import (
	"bytes"
	"encoding/json"
	"errors"

	"github.com/forge-build/forge"
)

// attestations prints what was attached to images: one JSON document each.
func (c *inspectCmd) attestations(s *session) error {
	kind := forge.AttestationProvenance
	if c.SBOM {
		kind = forge.AttestationSBOM
	}
	if c.Remote {
		var errs []error
		for _, name := range c.Names {
			list, err := forge.RemoteAttestations(s.ctx, name, c.Platform, kind, forge.RemoteOptions{Insecure: c.Insecure})
			errs = append(errs, err, printDocuments(s, list))
		}
		return errors.Join(errs...)
	}
	return s.withHome(func(h *forge.Home) error {
		var errs []error
		for _, name := range c.Names {
			list, err := h.Attestations(s.ctx, name, c.Platform, kind)
			errs = append(errs, err, printDocuments(s, list))
		}
		return errors.Join(errs...)
	})
}

func printDocuments(s *session, list []json.RawMessage) error {
	for _, raw := range list {
		var b bytes.Buffer
		if err := json.Indent(&b, raw, "", "    "); err != nil {
			return err
		}
		b.WriteByte('\n')
		if _, err := (jsonWriter{s.out}).Write(b.Bytes()); err != nil {
			return err
		}
	}
	return nil
}

package forge

import (
	"fmt"
	"strings"

	"github.com/forge-build/forge/internal/reapi"
)

// ServerOptions say how servers of the Remote Execution API are asked. The zero value asks as nobody in particular.
type ServerOptions = reapi.Options

// IsServer reports whether a name is the address of a server of the Remote Execution API.
func IsServer(name string) bool {
	return strings.HasPrefix(name, "grpc://") || strings.HasPrefix(name, "grpcs://")
}

// server is a client of a server. Those who ask for the same share it; Close closes it.
func (h *Home) server(address string, o ServerOptions) (*reapi.Client, error) {
	id := fmt.Sprintf("%q %q", address, o)
	h.mu.Lock()
	defer h.mu.Unlock()
	if c := h.servers[id]; c != nil {
		return c, nil
	}
	c, err := reapi.Dial(address, o)
	if err != nil {
		return nil, err
	}
	if h.servers == nil {
		h.servers = map[string]*reapi.Client{}
	}
	h.servers[id] = c
	return c, nil
}

// Package cache remembers which layer a fully described step produced, and why a question is new.
package cache

import "crypto/sha256"

// A Key names a question: everything that a step's result depends on.
type Key [sha256.Size]byte

// Package cache remembers which layer a fully described step produced, and why a question is new.
package cache

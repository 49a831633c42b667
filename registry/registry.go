// Package registry speaks HTTP: the OCI distribution protocol 1.1 and the one before it, Docker's registry API v2, with
// their ways of asking for credentials.
//
// [Client.Connect] gives a [Repository], which is an [image.Store]. [Copy] moves a manifest and all it names from one store
// to another, leaves first. Whatever a registry says is checked before it is believed: sizes and digests of everything,
// lengths of every document, the origin that credentials go to, the address that a redirect leads to.
//
// Nothing is read from disk and nothing is asked of the network before a registry is needed.
package registry

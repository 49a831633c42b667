package snapshot

import "github.com/forge-build/forge/snapshot/filetree"

// Entry and Tree are what packages that read trees agree on; *View and *Dir are Trees.
type (
	Entry = filetree.Entry
	Tree  = filetree.Tree
)

package vfs

import "slices"

// fileTree are the names that a mount knows, in which N is a file or folder.
type fileTree[N any] interface {
	// above is the folder that n is in, and its name there.
	above(n N) (dir N, name string, ok bool)
	// sorted are the names in a folder, in order.
	sorted(dir N) []string
	// below is what a name of a folder is: a folder to go through, a small file, or
	// neither.
	below(dir N, name string) (sub N, file *nextFile)
}

// maxSteps is how many entries filesAfter looks at.
const maxSteps = 4096

// filesAfter returns up to count small files that come after n, in the order in which
// programs read a tree: by name, folder by folder.
func filesAfter[N comparable](t fileTree[N], n N, count int) (l []nextFile) {
	var none N
	dir, after, ok := t.above(n)
	for steps := 0; ok && steps < maxSteps && len(l) < count; steps++ {
		names := t.sorted(dir)
		i, found := slices.BinarySearch(names, after)
		if found {
			i++
		}
		sub := none
		for ; i < len(names) && sub == none && len(l) < count && steps < maxSteps; i++ {
			steps++
			var file *nextFile
			if sub, file = t.below(dir, names[i]); file != nil {
				l = append(l, *file)
			}
		}
		if sub != none {
			dir, after = sub, ""
		} else {
			dir, after, ok = t.above(dir)
		}
	}
	return l
}

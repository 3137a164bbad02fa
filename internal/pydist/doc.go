// Package pydist reads Python distributions, wheels and sdists, and tells what
// an installation out of a folder of them will lack.
//
//	d, err := pydist.Read("dist/hello-1.4.2-py3-none-any.whl")
//	problems := pydist.NewPool(dists, nil).Check(targets, pydist.Options{FreshVenv: true})
//
// It is no resolver: pip decides what is installed. What is reported as certain
// is what no choice of pip's can mend; where the node's Python, a marker or the
// metadata leave a doubt, a problem is not certain, or is none.
//
// Rules of names and versions are those of PEP 503 and PEP 440, of wheels' names
// and tags PEP 427 and PEP 425, of metadata PEP 566 and PEP 643, of requirements
// and markers PEP 508, of build requirements PEP 518.
package pydist

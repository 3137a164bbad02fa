// Package deploy reads deploy.ini.
package deploy

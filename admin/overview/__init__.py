"""What goes on in an app, for people: the dashboard's pages and `taskstream top` show the same."""

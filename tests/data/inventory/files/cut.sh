crew's own

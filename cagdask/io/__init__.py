"""Reading what people have into stores: sample sheets, sample JSONs, tables."""
